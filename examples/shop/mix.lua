-- What customers do: of 24 requests twelve look at a product, four at the front page, two at their cart and one at their
-- orders; one puts something into the cart, one orders, one puts a product into the stock, two get a file.
local turn = 0
function request()
   turn = turn + 1
   local product = (turn * 7919) % 400
   local at, user = turn % 24, product % 50
   if at < 12 then
      return wrk.format("GET", "/product/" .. product)
   elseif at < 16 then
      return wrk.format("GET", "/home")
   elseif at < 18 then
      return wrk.format("GET", "/cart/" .. user)
   elseif at == 18 then
      return wrk.format("GET", "/order/" .. user)
   elseif at == 19 then
      return wrk.format("POST", "/cart/" .. user, nil, "item=" .. product)
   elseif at == 20 then
      return wrk.format("POST", "/order/" .. user, nil, "pay=card")
   elseif at == 21 then
      return wrk.format("PUT", "/product/" .. product, nil, "stock=1")
   end
   return wrk.format("GET", "/banner.html")
end
