"""Answer GET, HEAD, PUT and DELETE under `/storage/`: what to answer is pure, how it is sent is not."""
