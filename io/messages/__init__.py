"""What is in the bytes of one message, whichever source it comes from."""
