"""What a flag means: its model, its lot and its evaluation. Pure: no I/O, no thread, no clock."""
