-- Counts requests; the same arithmetic as gateway/admission/windows.py, which is its oracle.
--
-- KEYS: the counters. ARGV: groups of keys that share a rule and a cost, in the order of the
-- keys: number of keys, cost, number of windows, and for each window its kind and numbers:
--   s limit part            a sliding window, cut into parts
--   f limit window          a fixed window
--   g limit step rest tolerance rest     gcra
-- `now`, microseconds, is set by the line that is put before this file: the server's TIME.
--
-- Lua's numbers are doubles, exact up to 2^53. Microseconds since 1970 stay below that until
-- 2255, and floor and ceil of a quotient of two such integers are exact. For gcra microseconds
-- times the limit would be too much: its moments are two numbers, whole microseconds and a rest
-- in units of 1/limit.
--
-- The reply is one string of little-endian integers: now, then for each window of each key
-- how it went (1 counted, 0 refused, 2 had room, but another had none) and two numbers:
-- counted: the total and the sub-window; the count and the window; the moment and its rest.
-- Refused: the moment when the same request would pass, and nothing.
-- A refused request writes nothing. A key goes by itself when nothing in it counts any more.

local floor, ceil, max = math.floor, math.ceil, math.max
local call, pack = redis.call, struct.pack
local PARTS = 16

-- Each of these takes the window, its state or nil, and the cost. It returns the state to keep
-- (nil: refused), two numbers for the reply, and the moment when the state is worth nothing.
local count = {}

local function moved(state, index)
  local oldest, last = index - PARTS, #state
  local new = { state[1], index, 0 }
  for at = 4, last, 2 do
    if state[at] < oldest then
      new[1] = new[1] - state[at + 1]
    else
      new[#new + 1], new[#new + 2] = state[at], state[at + 1]
    end
  end
  if state[3] > 0 then
    if state[2] < oldest then
      new[1] = new[1] - state[3]
    else
      new[#new + 1], new[#new + 2] = state[2], state[3]
    end
  end
  return new
end

function count.s(window, state, cost)
  local limit, part = window[1], window[2]
  local index = floor(now / part)
  if not state then
    state = { 0, index, 0 }
  elseif index > state[2] then
    state = moved(state, index)
  end
  local total = state[1] + cost
  if total > limit then
    local excess = total - limit
    for at = 4, #state, 2 do
      excess = excess - state[at + 1]
      if excess <= 0 then
        return nil, (state[at] + PARTS + 1) * part, 0
      end
    end
    return nil, (state[2] + PARTS + 1) * part, 0
  end
  state[1], state[3] = total, state[3] + cost
  return state, total, state[2], (state[2] + PARTS + 1) * part
end

function count.f(window, state, cost)
  local limit, length = window[1], window[2]
  local index = floor(now / length)
  if not state or index > state[1] then
    state = { index, 0 }
  end
  local ends = (state[1] + 1) * length
  if state[2] + cost > limit then
    return nil, ends, 0
  end
  state[2] = state[2] + cost
  return state, state[2], state[1], ends
end

function count.g(window, state, _)
  local limit, step, step_rest, tolerance, tolerance_rest = unpack(window)
  local whole, rest = now, 0
  if state and state[1] >= now then
    whole, rest = state[1], state[2]
  end
  whole, rest = whole + step, rest + step_rest
  if rest >= limit then
    whole, rest = whole + 1, rest - limit
  end
  local lacking = whole - now - tolerance
  if lacking > 0 or (lacking == 0 and rest > tolerance_rest) then
    local at = whole - tolerance
    return nil, rest > tolerance_rest and at + 1 or at, 0
  end
  return { whole, rest }, whole, rest, whole + 1
end

local SIZE = { s = 2, f = 2, g = 5 }
local at = 0

local function argument()
  at = at + 1
  return ARGV[at]
end

local function windows_of_group()
  local windows = {}
  for number = 1, tonumber(argument()) do
    local kind = argument()
    local window = { take = count[kind] }
    for place = 1, SIZE[kind] do
      window[place] = tonumber(argument())
    end
    windows[number] = window
  end
  return windows
end

local reply = { pack('<i8', now) }

local function take(key, windows, cost)
  local raw = call('GET', key)
  local states = raw and cmsgpack.unpack(raw) or {}
  local kept, first, second, ends, all = {}, {}, {}, 0, true
  for number = 1, #windows do
    local window, until_ = windows[number], nil
    kept[number], first[number], second[number], until_ = window.take(window, states[number], cost)
    if kept[number] then
      ends = max(ends, until_)
    else
      all = false
    end
  end
  if all then
    call('SET', key, cmsgpack.pack(kept), 'PX', max(1, ceil((ends - now) / 1000)))
  end
  for number = 1, #windows do
    local how = all and 1 or kept[number] and 2 or 0
    reply[#reply + 1] = pack('<bi8i8', how, first[number], second[number])
  end
end

local place = 0
while at < #ARGV do
  local keys, cost = tonumber(argument()), tonumber(argument())
  local windows = windows_of_group()
  for _ = 1, keys do
    place = place + 1
    take(KEYS[place], windows, cost)
  end
end
return table.concat(reply)
