-- How full the accept queues were.
-- {listeners}: the view of that name.
-- Columns: recording; netns; laddr, lport; owner; at_ns (ns since 1970); waiting, its peak since the
-- sample before, and its limit (connections).
SELECT recording, coalesce(netns_name, netns::VARCHAR) AS netns, laddr, lport,
    coalesce(arg_max(owner_comm, accept_queue), '') AS owner, epoch_ns(ts) AS at_ns,
    max(accept_queue)::BIGINT AS waiting, max(accept_queue_peak)::BIGINT AS peak,
    max(backlog)::BIGINT AS "limit"
FROM {listeners}
GROUP BY recording, coalesce(netns_name, netns::VARCHAR), laddr, lport, ts
ORDER BY recording, netns, laddr, lport, at_ns
