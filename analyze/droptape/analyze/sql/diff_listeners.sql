-- Listening sockets and the limits of their accept queues, as last seen.
-- {rows}: recording, ts, netns, laddr, lport, owner_comm, backlog.
-- Columns: name (address:port and process), backlog (the smallest, where several share all that).
SELECT coalesce(laddr, '*') || ':' || lport || coalesce(' ' || owner_comm, '') AS name,
    min(backlog) AS backlog
FROM (
    SELECT laddr, lport, owner_comm, backlog, row_number() OVER (
        PARTITION BY recording, netns, laddr, lport, owner_comm ORDER BY ts DESC
    ) AS age
    FROM ({rows})
)
WHERE age = 1
GROUP BY coalesce(laddr, '*') || ':' || lport || coalesce(' ' || owner_comm, '')
ORDER BY name
