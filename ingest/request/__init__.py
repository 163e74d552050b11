"""What is to be measured: the options of a command, read and checked without torch before any work starts."""
