"""An example service: a small shop that asks three flags and reports how its requests went."""
