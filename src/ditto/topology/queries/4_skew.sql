-- A span that another host called and that does not lie inside its caller: the clocks differ.  As Jaeger's adjuster
-- does it, the span is moved to the middle of its caller, or to its beginning if it is longer.  `twice` is double that
-- distance.  Other than there, hosts are taken in pairs: where the median of the pair puts a span inside its caller,
-- that is used, so that calls to one host keep their order.
CREATE TABLE outside AS
SELECT n, up_host, host, start, duration, up_start, up_duration,
       CASE WHEN duration <= up_duration THEN 2 * (up_start - start) + (up_duration - duration)
            ELSE 2 * (up_start - start) END AS twice
FROM entry
WHERE up IS NOT NULL AND up_start IS NOT NULL AND up_duration > 0 AND duration > 0 AND start > 0
  AND host <> up_host AND kind <> 5 AND up_kind <> 4 AND (flags % 4) < 2
  AND (start < up_start OR start + duration > up_start + up_duration);

CREATE TABLE pair AS
SELECT up_host, host, twice FROM (
  SELECT up_host, host, twice,
         ROW_NUMBER() OVER (PARTITION BY up_host, host ORDER BY twice, n) AS place,
         COUNT(*) OVER (PARTITION BY up_host, host) AS many
  FROM outside
) x WHERE 2 * place - many BETWEEN 0 AND 1;

CREATE TABLE skew AS
SELECT o.n,
       CASE WHEN 2 * o.start + p.twice >= 2 * o.up_start
             AND 2 * (o.start + o.duration) + p.twice <= 2 * (o.up_start + o.up_duration)
            THEN p.twice - (p.twice % 2) ELSE o.twice - (o.twice % 2) END AS twice
FROM outside o JOIN pair p ON p.up_host = o.up_host AND p.host = o.host;
