-- Entries: the spans that begin a request of a service.  A consumer under one of the same service goes on with its work.
CREATE TABLE entry AS
SELECT r.n, r.trace, r.shape, h.kind, h.service, h.host, h.endpoint, h.queue, r.start, r.duration,
       r.request, r.response, r.flags, r.linked, r.up, r.up_start, r.up_duration, r.up_shape,
       p.kind AS up_kind, p.service AS up_service, p.host AS up_host, p.queue AS up_queue,
       CASE WHEN h.kind = 5 THEN (CASE WHEN p.kind = 4 AND p.queue IS NOT NULL THEN p.queue ELSE h.queue END) END AS source
FROM rel r
JOIN shape h ON h.shape = r.shape
LEFT JOIN shape p ON p.shape = r.up_shape
WHERE r.up IS NULL OR h.kind = 2 OR h.service <> p.service OR (h.kind = 5 AND p.kind <> 5);

-- All others, with the span above them; followed upwards until it is an entry.
CREATE TABLE inner_0 AS
SELECT r.n, r.up AS above, 0 AS done
FROM rel r
JOIN shape h ON h.shape = r.shape
JOIN shape p ON p.shape = r.up_shape
WHERE r.up IS NOT NULL AND h.service = p.service AND h.kind <> 2 AND (h.kind <> 5 OR p.kind = 5);
