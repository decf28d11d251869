"""Places that numbers come from, one file each; `ports.SignalSource` says what each owes."""
