-- Entries: the spans that begin a request of a service.
CREATE TABLE entry AS
SELECT r.n, r.trace, r.shape, h.kind, h.service, h.host, h.endpoint, h.queue, r.start, r.duration,
       r.request, r.response, r.flags, r.linked, r.up, r.up_start, r.up_duration, r.up_shape,
       p.kind AS up_kind, p.service AS up_service, p.host AS up_host, p.queue AS up_queue, p.leaf AS up_leaf
FROM rel r
JOIN shape h ON h.shape = r.shape
LEFT JOIN shape p ON p.shape = r.up_shape
WHERE r.up IS NULL OR h.kind IN (2, 5) OR h.service <> p.service;

-- All others, with the span above them; followed upwards until it is an entry.
CREATE TABLE inner_0 AS
SELECT r.n, r.up AS above, 0 AS done
FROM rel r
JOIN shape h ON h.shape = r.shape
JOIN shape p ON p.shape = r.up_shape
WHERE r.up IS NOT NULL AND h.kind NOT IN (2, 5) AND h.service = p.service;
