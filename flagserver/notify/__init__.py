"""Ways to tell people, one file each; `ports.Notifier` says what each owes."""
