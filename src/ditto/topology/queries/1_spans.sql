-- Ids that more than one record has: the same span twice, or the halves of one call, which share an id in Zipkin's way.
CREATE TABLE multi AS SELECT trace, id FROM span GROUP BY trace, id HAVING COUNT(*) > 1;

CREATE TABLE ranked AS
SELECT s.n, s.trace, s.id, h.kind, h.service, h.host, s.start,
       ROW_NUMBER() OVER (PARTITION BY s.trace, s.id, h.kind, h.service, h.host, s.start
                          ORDER BY COALESCE(s.duration, -1) DESC, s.n) AS copy
FROM span s
JOIN multi m ON m.trace = s.trace AND m.id = s.id
JOIN shape h ON h.shape = s.shape;

CREATE TABLE copies AS SELECT n FROM ranked WHERE copy > 1;

-- Only the first 16 halves of an id can be a parent: a damaged file may give one id to all its spans.
CREATE TABLE half AS
SELECT n, trace, id, kind, service, host, start,
       COUNT(*) OVER (PARTITION BY trace, id) AS halves,
       ROW_NUMBER() OVER (PARTITION BY trace, id ORDER BY n) AS place
FROM ranked WHERE copy = 1;

CREATE TABLE caller AS
SELECT trace, id, MIN(n) AS n FROM half WHERE halves > 1 AND kind IN (3, 4) GROUP BY trace, id;

-- Serving halves hang on the calling half of the same id.
CREATE TABLE serving AS
SELECT c.n, p.n AS up
FROM half c JOIN caller p ON p.trace = c.trace AND p.id = c.id
WHERE c.halves > 1 AND c.kind IN (2, 5);

-- Children of an id with several halves hang on the half of their own service and host, the serving one first.
CREATE TABLE choice AS
SELECT n, up FROM (
  SELECT c.n, p.n AS up,
         ROW_NUMBER() OVER (PARTITION BY c.n ORDER BY
           CASE WHEN p.service = h.service AND p.host = h.host THEN 0 WHEN p.service = h.service THEN 1 ELSE 2 END,
           CASE WHEN p.kind IN (2, 5) THEN 0 ELSE 1 END,
           CASE WHEN p.start <= c.start THEN 0 ELSE 1 END,
           ABS(COALESCE(c.start, 0) - COALESCE(p.start, 0)), p.n) AS preference
  FROM half p
  JOIN span c ON c.trace = p.trace AND c.parent = p.id AND c.n <> p.n
  JOIN shape h ON h.shape = c.shape
  LEFT JOIN serving v ON v.n = c.n
  LEFT JOIN copies d ON d.n = c.n
  WHERE p.halves > 1 AND p.place <= 16 AND v.n IS NULL AND d.n IS NULL
) x WHERE preference = 1
UNION ALL
SELECT n, up FROM serving;

CREATE TABLE special AS
SELECT n FROM choice UNION ALL SELECT n FROM copies;
