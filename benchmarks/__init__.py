"""What selfrepair costs at full size: run by hand, never by the tests."""
