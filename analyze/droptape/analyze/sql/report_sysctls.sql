-- Kernel settings: each value, and in how many namespaces it was seen.
-- {limit}: rows at most.
-- Columns: recording, name, value, namespaces, where (one of them), changed (whether it was not
-- the same all the time in one of them), found.
WITH by_namespace AS (
    SELECT recording, netns, coalesce(netns_name, netns::VARCHAR) AS namespace, name, value,
        count(DISTINCT value) OVER (PARTITION BY recording, netns, name) AS values_seen
    FROM sysctls
)
SELECT recording, name, value, count(DISTINCT netns) AS namespaces, min(namespace) AS example,
    max(values_seen) > 1 AS changed, count(*) OVER () AS found
FROM by_namespace
GROUP BY recording, name, value
ORDER BY recording, changed DESC, name, value
LIMIT {limit}
