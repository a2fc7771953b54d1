-- Calls, one a row: the entry that makes it, the endpoint called, and when, by the caller's clock.
CREATE TABLE called AS SELECT DISTINCT up AS n FROM entry WHERE up_kind IN (3, 4);

-- Spans that a link of a first span names, for work that was handed on in another trace.
CREATE TABLE handed AS
SELECT e.n, MIN(t.n) AS giver
FROM entry e
JOIN span s ON s.n = e.n
JOIN link l ON l.trace = s.trace AND l.id = s.id
JOIN span t ON t.trace = l.to_trace AND t.id = l.to_id
WHERE e.up IS NULL AND e.linked > 0 AND t.n <> e.n
GROUP BY e.n, l.to_trace, l.to_id;

CREATE TABLE made AS
SELECT e.n, COALESCE(i.above, e.up) AS owner, COALESCE(e.source, e.endpoint) AS target,
       CASE WHEN e.kind = 5 OR e.up_kind = 4 OR (e.flags % 4) >= 2
              OR (e.host = e.up_host AND e.up_duration > 0 AND e.start >= e.up_start + e.up_duration)
            THEN 1 ELSE 0 END AS later,
       CASE WHEN e.up_kind IN (3, 4) AND e.up_start IS NOT NULL THEN e.up_start
            ELSE e.start + CAST(COALESCE(k.twice, 0) / 2 AS BIGINT) END AS start,
       CASE WHEN e.up_kind IN (3, 4) AND e.up_duration > 0 THEN e.up_duration ELSE e.duration END AS duration,
       e.request, e.response, e.flags % 2 AS failed
FROM entry e
LEFT JOIN own i ON i.n = e.up
LEFT JOIN skew k ON k.n = e.n
WHERE e.up IS NOT NULL AND (e.source IS NULL OR (e.up_kind = 4 AND e.up_queue IS NULL))
UNION ALL
SELECT r.n, COALESCE(i.above, r.n), COALESCE(h.queue, h.leaf), CASE WHEN h.kind = 4 THEN 1 ELSE 0 END,
       r.start, r.duration, r.request, r.response, r.flags % 2
FROM rel r
JOIN shape h ON h.shape = r.shape
LEFT JOIN own i ON i.n = r.n
LEFT JOIN called c ON c.n = r.n
WHERE h.kind IN (3, 4) AND h.leaf IS NOT NULL AND (c.n IS NULL OR (h.kind = 4 AND h.queue IS NOT NULL))
UNION ALL
SELECT e.n, COALESCE(i.above, g.giver), e.endpoint, 1, g_span.start, 0, e.request, e.response, e.flags % 2
FROM handed g
JOIN entry e ON e.n = g.n
JOIN rel g_span ON g_span.n = g.giver
LEFT JOIN own i ON i.n = g.giver
WHERE e.source IS NULL;

-- Messages taken from a queue, by the name that the sender has for it; `given` if the span that sent it is there too.
CREATE TABLE taken AS
SELECT e.n, e.source AS queue, e.endpoint, e.flags % 2 AS failed,
       CASE WHEN e.up_kind = 4 OR g.n IS NOT NULL THEN 1 ELSE 0 END AS given
FROM entry e
LEFT JOIN (SELECT DISTINCT d.n, h.queue FROM handed d JOIN span t ON t.n = d.giver JOIN shape h ON h.shape = t.shape
           WHERE h.kind = 4) g ON g.n = e.n AND g.queue = e.source
WHERE e.source IS NOT NULL;

CREATE TABLE kinds_of_call AS
SELECT o.endpoint, m.target, m.later, COUNT(*) AS calls
FROM made m JOIN entry o ON o.n = m.owner
GROUP BY o.endpoint, m.target, m.later;
