-- The container or unit of each process, where that is known and one.
-- {recording}: the name of the recording, as a literal.
-- {called}: what the runtime calls it, NULL where that was not recorded.
-- Columns: pid; name (else its id); runtime.
WITH one AS (
    SELECT pid, max(cgroup) AS path
    FROM processes
    WHERE recording = {recording}
    GROUP BY pid
    HAVING count(DISTINCT cgroup) = 1
)
SELECT one.pid, max(coalesce({called}, c.container)) AS name, max(c.runtime) AS runtime
FROM one
JOIN cgroups AS c ON c.path = one.path
WHERE c.recording = {recording} AND c.container IS NOT NULL
GROUP BY one.pid
HAVING count(DISTINCT c.container) = 1
