"""Pre-training of the mini CLIP on images and captions of the mini world."""
