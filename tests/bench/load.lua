-- wrk's script: the users' tokens in turn, each request formatted beforehand.
--   wrk -s load.lua URL -- TOKENS USERS METHOD BYTES HEADERS FIRST
-- TOKENS: a file with one a line, or - for none. HEADERS: few (Host and Authorization),
-- browser (twelve), fresh (the same, one of them new each time). FIRST: how many
-- users to pass over. Prints one line of JSON.
-- "sent" counts the requests begun: what is neither answered nor an error was cut off by
-- wrk's own end.
local BROWSER = {
  ["User-Agent"] = "Mozilla/5.0 (X11; Linux x86_64; rv:145.0) Gecko/20100101 Firefox/145.0",
  ["Accept"] = "application/json, text/plain, */*",
  ["Accept-Language"] = "en-GB,en;q=0.8,fr;q=0.5",
  ["Accept-Encoding"] = "gzip, deflate, br, zstd",
  ["Referer"] = "https://shop.example/basket/42",
  ["Origin"] = "https://shop.example",
  ["Cache-Control"] = "no-cache",
  ["Sec-Fetch-Dest"] = "empty",
  ["Sec-Fetch-Mode"] = "cors",
  ["Sec-Fetch-Site"] = "same-site",
}
local SPAN = "................"
local workers = {}

function setup(thread)
  table.insert(workers, thread)
end

function init(args)
  local users, method, bytes = tonumber(args[2]), args[3], tonumber(args[4])
  fresh, serial, sent, at, requests = args[5] == "fresh", tonumber(args[6]), 0, tonumber(args[6]), {}
  local fields = {}
  if args[5] ~= "few" then
    for name, value in pairs(BROWSER) do fields[name] = value end
  end
  if fresh then fields["traceparent"] = "00-0af7651916cd43dd8448eb211c80319c-" .. SPAN .. "-01" end
  local body = bytes > 0 and string.rep("x", bytes) or nil
  if args[1] == "-" then
    requests[1] = wrk.format(method, nil, fields, body)
    return
  end
  for token in io.lines(args[1]) do
    if #requests == users then break end
    fields["Authorization"] = "Bearer " .. token
    requests[#requests + 1] = wrk.format(method, nil, fields, body)
  end
end

function request()
  at = at % #requests + 1
  sent = sent + 1
  if not fresh then return requests[at] end
  serial = serial + 1
  local first, last = string.find(requests[at], SPAN, 1, true)
  return requests[at]:sub(1, first - 1) .. string.format("%016x", serial) .. requests[at]:sub(last + 1)
end

function done(summary, latency)
  local begun = 0
  for _, worker in ipairs(workers) do begun = begun + worker:get("sent") end
  local errors = summary.errors
  io.write(string.format(
    'JSON {"answered": %d, "sent": %d, "microseconds": %d, "bytes": %d, "refused": %d, "broken": %d, "p50": %d, "p99": %d}\n',
    summary.requests, begun, summary.duration, summary.bytes, errors.status,
    errors.connect + errors.read + errors.write + errors.timeout, latency:percentile(50), latency:percentile(99)))
end
