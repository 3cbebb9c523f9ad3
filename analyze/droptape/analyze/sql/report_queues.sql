-- How full accept queues were over time, for the listeners that came nearest to their limit.
-- {refused}: a query with recording, netns, lport, refused. {origin}, {width}: of buckets, ns.
-- {limit}: listeners at most.
-- Columns: recording, netns, namespace, laddr, lport, owner, container, backlog (the largest), most (waiting at a time),
-- refused, found (how many listeners there are), points: bucket (0 is the first), waiting, backlog,
-- syn_queue, each the most in the bucket.
WITH seen AS (
    SELECT recording, netns, coalesce(netns_name, netns::VARCHAR) AS namespace, laddr, lport,
        arg_max(owner_comm, mono_ns) OVER w AS owner, arg_max(container, mono_ns) OVER w AS container,
        floor((epoch_ns(ts) - {origin}) / {width})::BIGINT AS bucket,
        greatest(accept_queue, coalesce(accept_queue_peak, 0)) AS waiting, backlog, syn_queue
    FROM listeners
    WHERE open
    WINDOW w AS (PARTITION BY recording, netns, laddr, lport)
),
by_bucket AS (
    SELECT recording, netns, namespace, laddr, lport, owner, container, bucket, max(waiting) AS waiting,
        max(backlog) AS backlog, max(syn_queue) AS syn_queue
    FROM seen
    GROUP BY ALL
),
by_listener AS (
    SELECT recording, netns, namespace, laddr, lport, owner, container, max(backlog) AS backlog,
        max(waiting) AS most, max(waiting / (backlog + 1)) AS fullest,
        list({bucket: bucket, waiting: waiting, backlog: backlog, syn_queue: syn_queue} ORDER BY bucket) AS points
    FROM by_bucket
    GROUP BY ALL
)
SELECT l.* EXCLUDE (fullest), coalesce(r.refused, 0)::BIGINT AS refused, count(*) OVER () AS found
FROM by_listener AS l
LEFT JOIN ({refused}) AS r
    ON r.recording = l.recording AND r.netns IS NOT DISTINCT FROM l.netns AND r.lport = l.lport
ORDER BY refused DESC, fullest DESC, most DESC, l.recording, namespace, laddr, lport
LIMIT {limit}
