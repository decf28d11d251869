-- Counts a try under each of some names. A name's first try begins its window.
--
-- KEYS  one count for each name
-- ARGV  1 seconds of the window
-- Returns how many there are under each, this one among them.

local found = {}
for i, name in ipairs(KEYS) do
  found[i] = redis.call('INCR', name)
  if found[i] == 1 then redis.call('EXPIRE', name, ARGV[1]) end
end
return found
