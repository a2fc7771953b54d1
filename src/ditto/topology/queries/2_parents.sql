-- Every span with its parent: `up` is the parent's number, none for a root; `orphan` has a parent that no file holds.
CREATE TABLE rel AS
SELECT s.n, s.trace, s.shape, COALESCE(s.start, p.start, 0) AS start, COALESCE(s.duration, 0) AS duration,
       s.request, s.response, s.flags, s.linked,
       p.n AS up, p.shape AS up_shape, p.start AS up_start, p.duration AS up_duration,
       CASE WHEN s.parent IS NOT NULL AND p.n IS NULL THEN 1 ELSE 0 END AS orphan,
       CASE WHEN s.start IS NULL THEN 1 ELSE 0 END AS untimed,
       CASE WHEN s.parent = s.id THEN 1 ELSE 0 END AS itself
FROM span s
LEFT JOIN special x ON x.n = s.n
LEFT JOIN (SELECT q.n, q.trace, q.id, q.shape, q.start, q.duration FROM span q
           LEFT JOIN copies d ON d.n = q.n
           LEFT JOIN (SELECT n FROM half WHERE halves > 1) m ON m.n = q.n
           WHERE d.n IS NULL AND m.n IS NULL) p
  ON p.trace = s.trace AND p.id = s.parent
WHERE x.n IS NULL;

INSERT INTO rel
SELECT s.n, s.trace, s.shape, COALESCE(s.start, p.start, 0), COALESCE(s.duration, 0),
       s.request, s.response, s.flags, s.linked, p.n, p.shape, p.start, p.duration, 0,
       CASE WHEN s.start IS NULL THEN 1 ELSE 0 END, 0
FROM choice c JOIN span s ON s.n = c.n JOIN span p ON p.n = c.up;

-- Only a trace with a span that does not begin after its parent can hold a cycle.
CREATE TABLE suspect AS
SELECT DISTINCT trace FROM rel WHERE up IS NOT NULL AND (start <= up_start OR up_start IS NULL OR untimed = 1);

CREATE TABLE walk AS
SELECT r.n, r.up FROM rel r JOIN suspect s ON s.trace = r.trace WHERE r.up IS NOT NULL;
