-- Three pages for each list.
local n = 0
request = function()
    n = n + 1
    return wrk.format("GET", n % 4 == 0 and "/list.php" or "/page.php?n=" .. n % 10)
end
