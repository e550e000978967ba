-- One take: all limits are checked, then all are charged or none. The same as turnpike/control/sliding_window.py.
--
-- KEYS: one for each limit.  ARGV: the time in milliseconds, or '' for the server's own; then window_ms, cap and amount of
-- each limit.  Returns 1 or 0 for allowed or not; then remaining, reset_ms and wait_ms of each limit.
--
-- A value is {time of writing, age of a segment's start, age of its youngest part, its amount, ...}, oldest segment first.

local SEGMENTS_PER_WINDOW = 60

local now = tonumber(ARGV[1])
if not now then
  local time = redis.call('TIME')
  now = time[1] * 1000 + math.floor(time[2] / 1000)
end

local function read(limit)
  local value = redis.call('GET', limit.key)
  if not value then return end
  local stored, live = cmsgpack.unpack(value), limit.value
  -- Where the clock went back, go back with it: nothing leaves early, and nothing waits for the clock to catch up.
  local passed = math.max(0, now - stored[1])
  for i = 2, #stored, 3 do
    local youngest = stored[i + 1] + passed
    if youngest < limit.window then
      local size = #live
      live[size + 1], live[size + 2], live[size + 3] = stored[i] + passed, youngest, stored[i + 2]
      limit.count = limit.count + stored[i + 2]
    end
  end
  limit.changed = now < stored[1] or #live < #stored
end

local function charge(limit)
  local value, size = limit.value, #limit.value
  if size > 1 and value[size - 2] < math.ceil(limit.window / SEGMENTS_PER_WINDOW) then
    value[size - 1], value[size] = 0, value[size] + limit.amount
  else
    value[size + 1], value[size + 2], value[size + 3] = 0, 0, limit.amount
  end
  limit.count, limit.changed = limit.count + limit.amount, true
end

local function write(limit)
  if limit.count > 0 then
    redis.call('SET', limit.key, cmsgpack.pack(limit.value), 'PX', limit.window)
  else
    redis.call('DEL', limit.key)
  end
end

local function freed_in(limit, wanted)
  local leaves_in = 0
  for i = 2, #limit.value, 3 do
    wanted = wanted - limit.value[i + 2]
    leaves_in = limit.window - limit.value[i + 1]
    if wanted <= 0 then break end
  end
  return leaves_in
end

local limits, allowed = {}, true
for i, key in ipairs(KEYS) do
  local limit = {
    key = key, window = tonumber(ARGV[3 * i - 1]), cap = tonumber(ARGV[3 * i]), amount = tonumber(ARGV[3 * i + 1]),
    value = {now}, count = 0, changed = false,
  }
  read(limit)
  limits[i] = limit
  allowed = allowed and limit.count + limit.amount <= limit.cap
end

local answer = {allowed and 1 or 0}
for i, limit in ipairs(limits) do
  if allowed then charge(limit) end
  if limit.changed then write(limit) end
  local left = limit.cap - limit.count
  local reset, wait = 0, 0
  if limit.count > 0 then reset = freed_in(limit, math.max(1, 1 - left)) end
  if not allowed and limit.amount > left then
    wait = limit.amount > limit.cap and limit.window or freed_in(limit, limit.amount - left)
  end
  answer[3 * i - 1], answer[3 * i], answer[3 * i + 1] = math.max(0, left), reset, wait
end
return answer
