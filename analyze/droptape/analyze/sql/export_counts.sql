-- The exact counts of the kernel, added up, at the end of each interval in which they moved.
-- {totals}: the view of that name.
-- Columns: recording, kind, cause, function, protocol, netns, netns_name, benign; at_ns (end of the
-- interval, ns since 1970); events (in the interval).
SELECT recording, kind, cause, function, protocol, netns, netns_name,
    coalesce(benign, false) AS benign, epoch_ns(ts) AS at_ns, sum(events)::BIGINT AS events
FROM {totals}
WHERE events > 0
GROUP BY ALL
ORDER BY recording, kind, cause, function, protocol, netns, netns_name, benign, at_ns
