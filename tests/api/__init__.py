"""Tests of the JSON API and of the URLs that it gives."""
