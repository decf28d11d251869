"""How it is found out who somebody is."""
