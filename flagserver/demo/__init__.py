"""`flagserver demo`: `running` keeps all of it going; `shop` is what moves and breaks it."""
