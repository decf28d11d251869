"""What the server decides, as pure functions: time and chance are arguments."""
