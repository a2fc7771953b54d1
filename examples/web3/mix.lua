-- Of eight requests five are pages, one is a vote, one is the front page and one a file.
local turn = 0
function request()
   turn = turn + 1
   local at, page = turn % 8, (turn * 31) % 200
   if at < 5 then
      return wrk.format("GET", "/page/" .. page)
   elseif at == 5 then
      return wrk.format("POST", "/vote/" .. (turn * 17) % 200)
   elseif at == 6 then
      return wrk.format("GET", "/")
   end
   return wrk.format("GET", "/about.html")
end
