-- The kernel settings as they were last read.
-- sysctls: the table of one recording.
-- Columns: netns, name, value (text). A setting that a namespace does not show is the host's.
SELECT n.netns, h.name, coalesce(o.value, h.value) AS value
FROM (SELECT DISTINCT netns FROM sysctls) AS n
CROSS JOIN (
    SELECT name, coalesce(arg_max(value, ts) FILTER (WHERE netns_name = 'host'), max(CASE WHEN
        name LIKE 'net.core.%' OR name LIKE 'net.netfilter.%' THEN value END)) AS value
    FROM sysctls GROUP BY name
) AS h
LEFT JOIN (
    SELECT netns, name, arg_max(value, ts) AS value FROM sysctls GROUP BY netns, name
) AS o ON o.netns = n.netns AND o.name = h.name
WHERE coalesce(o.value, h.value) IS NOT NULL
