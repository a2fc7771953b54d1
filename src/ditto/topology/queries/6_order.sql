-- Calls of a request in order; those that overlap in time are one group.
CREATE TABLE call AS
SELECT m.n, m.owner, d.edge, m.start, m.start + m.duration AS ends, m.duration, m.request, m.response, m.failed
FROM made m
JOIN entry o ON o.n = m.owner
JOIN edge d ON d.endpoint = o.endpoint AND d.target = m.target AND d.later = m.later;

CREATE TABLE grouped AS
SELECT owner, edge, SUM(fresh) OVER (PARTITION BY owner ORDER BY start, ends, edge, n
                                     ROWS BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW) AS grp
FROM (
  SELECT n, owner, edge, start, ends,
         CASE WHEN start >= COALESCE(MAX(ends) OVER (PARTITION BY owner ORDER BY start, ends, edge, n
                                     ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING), start)
              THEN 1 ELSE 0 END AS fresh
  FROM call
) x;

CREATE TABLE unit AS SELECT owner, grp, edge, COUNT(*) AS wide FROM grouped GROUP BY owner, grp, edge;

-- A group is known by the sum of the marks of its edges; groups of the same edges that follow each other are a step.
CREATE TABLE step AS
SELECT owner, grp, mark_1, mark_2,
       SUM(CASE WHEN mark_1 = was_1 AND mark_2 = was_2 THEN 0 ELSE 1 END)
         OVER (PARTITION BY owner ORDER BY grp ROWS BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW) AS step
FROM (
  SELECT owner, grp, mark_1, mark_2,
         LAG(mark_1) OVER (PARTITION BY owner ORDER BY grp) AS was_1,
         LAG(mark_2) OVER (PARTITION BY owner ORDER BY grp) AS was_2
  FROM (
    SELECT u.owner, u.grp, SUM(d.mark_1) % 2147483647 AS mark_1, SUM(d.mark_2) % 2147483647 AS mark_2
    FROM unit u JOIN edge d ON d.edge = u.edge GROUP BY u.owner, u.grp
  ) x
) y;

-- A request's course is known by the sum of its steps' marks, each times the mark of its place; 64 steps count.
CREATE TABLE course AS
SELECT s.owner, o.endpoint,
       SUM((s.mark_1 * p.mark_1) % 2147483647) % 2147483647 AS mark_1,
       SUM((s.mark_2 * p.mark_2) % 2147483647) % 2147483647 AS mark_2,
       MAX(s.step) AS steps
FROM (SELECT DISTINCT owner, step, mark_1, mark_2 FROM step WHERE step <= 64) s
JOIN place p ON p.place = s.step
JOIN entry o ON o.n = s.owner
GROUP BY s.owner, o.endpoint;

CREATE TABLE branch AS
SELECT endpoint, mark_1, mark_2, steps, requests, place FROM (
  SELECT endpoint, mark_1, mark_2, steps, requests,
         ROW_NUMBER() OVER (PARTITION BY endpoint ORDER BY requests DESC, steps, mark_1, mark_2) AS place
  FROM (SELECT endpoint, mark_1, mark_2, steps, COUNT(*) AS requests FROM course
        GROUP BY endpoint, mark_1, mark_2, steps) x
) y WHERE place <= 16;

CREATE TABLE branch_call AS
SELECT c.endpoint, b.place, s.step, u.edge, COUNT(*) AS rounds, SUM(u.wide) AS wide
FROM branch b
JOIN course c ON c.endpoint = b.endpoint AND c.mark_1 = b.mark_1 AND c.mark_2 = b.mark_2 AND c.steps = b.steps
JOIN step s ON s.owner = c.owner
JOIN unit u ON u.owner = s.owner AND u.grp = s.grp
WHERE s.step <= 64
GROUP BY c.endpoint, b.place, s.step, u.edge;

CREATE TABLE edge_use AS
SELECT u.edge, SUM(u.wide) AS calls, COUNT(DISTINCT u.owner) AS owners, SUM(s.step) AS places, COUNT(*) AS units,
       SUM(CASE WHEN u.wide > 1 THEN u.wide ELSE 0 END) AS beside_itself
FROM unit u JOIN step s ON s.owner = u.owner AND s.grp = u.grp
GROUP BY u.edge;
