-- Of eight requests four are pages, two are votes, one is the front page and one a file.
local turn = 0
function request()
   turn = turn + 1
   local at, page = turn % 8, (turn * 31) % 200
   if at < 4 then
      return wrk.format("GET", "/page/" .. page)
   elseif at < 6 then
      return wrk.format("POST", "/vote/" .. page)
   elseif at == 6 then
      return wrk.format("GET", "/")
   end
   return wrk.format("GET", "/about.html")
end
