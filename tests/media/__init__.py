"""Tests of looks into media: the decoders, their bounds, the queue and the pictures."""
