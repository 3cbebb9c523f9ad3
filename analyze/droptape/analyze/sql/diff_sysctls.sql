-- Kernel settings as they were last read.
-- Columns: name; place (name of the network namespace, "" for those without one); value.
SELECT DISTINCT name, coalesce(netns_name, '') AS place, value
FROM (
    SELECT name, netns_name, value,
        row_number() OVER (PARTITION BY recording, netns, name ORDER BY ts DESC) AS age
    FROM sysctls
)
WHERE age = 1 AND name <> 'net.netfilter.nf_conntrack_count'
ORDER BY name, place, value
