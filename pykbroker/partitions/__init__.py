"""A partition as clients see it: a log, a high watermark, a leader epoch, and who waits for them."""
