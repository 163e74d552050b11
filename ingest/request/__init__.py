"""What is asked to be measured, read and checked without torch, before any work starts."""
