-- What customers do: half look at a product, a third come to the front page, the rest use their cart.
local turn = 0
function request()
   turn = turn + 1
   local product = (turn * 7919) % 400
   local at = turn % 12
   if at < 6 then
      return wrk.format("GET", "/product/" .. product)
   elseif at < 9 then
      return wrk.format("GET", "/home")
   elseif at < 11 then
      return wrk.format("GET", "/cart/" .. (product % 50))
   end
   return wrk.format("POST", "/cart/" .. (product % 50), nil, "item=" .. product)
end
