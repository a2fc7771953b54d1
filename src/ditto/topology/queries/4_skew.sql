-- A span that another host called and that does not lie inside its caller: the clocks differ.  As Jaeger's adjuster
-- does it, the span is moved to the middle of its caller, or to its beginning if it is longer; `twice` is double that
-- distance.  Other than there, hosts are first taken in pairs, so that calls to one host keep their order: the offset in
-- the middle of all that put every span of the pair inside its caller, or else the median of the spans' own offsets,
-- is used for the spans that it puts inside their callers.  Three years apart are no matter of clocks.
CREATE TABLE outside AS
SELECT n, up_host, host, start, duration, up_start, up_duration,
       CASE WHEN duration <= up_duration THEN 2 * (up_start - start) + (up_duration - duration)
            ELSE 2 * (up_start - start) END AS twice
FROM entry
WHERE up IS NOT NULL AND up_start IS NOT NULL AND up_duration > 0 AND duration > 0 AND start > 0
  AND host <> up_host AND kind <> 5 AND up_kind <> 4 AND (flags % 4) < 2
  AND start - up_start BETWEEN -100000000000000000 AND 100000000000000000
  AND (start < up_start OR start + duration > up_start + up_duration);

CREATE TABLE pair AS
SELECT m.up_host, m.host, CASE WHEN b.low <= b.high THEN b.low + b.high ELSE m.twice END AS twice
FROM (
  SELECT up_host, host, twice,
         ROW_NUMBER() OVER (PARTITION BY up_host, host ORDER BY twice, n) AS place,
         COUNT(*) OVER (PARTITION BY up_host, host) AS many
  FROM outside
) m
JOIN (SELECT up_host, host, MAX(up_start - start) AS low, MIN(up_start + up_duration - start - duration) AS high
      FROM outside GROUP BY up_host, host) b
  ON b.up_host = m.up_host AND b.host = m.host
WHERE 2 * m.place - m.many BETWEEN 0 AND 1;

CREATE TABLE skew AS
SELECT o.n,
       CASE WHEN 2 * o.start + p.twice >= 2 * o.up_start
             AND 2 * (o.start + o.duration) + p.twice <= 2 * (o.up_start + o.up_duration)
            THEN p.twice - (p.twice % 2) ELSE o.twice - (o.twice % 2) END AS twice
FROM outside o JOIN pair p ON p.up_host = o.up_host AND p.host = o.host;
