-- Packets that were lost on this host: those dropped, and openings that a listener refused, which
-- the kernel frees as consumed.
-- raw.drops, raw.listen, raw.retransmits: the views. A row of listen has no sequence number; the
-- opening that was sent again has it.
-- Columns: those of drops that are picked below; reason is the event of a refused opening.
SELECT recording, ts, saddr, sport, daddr, dport, protocol, ip_version, length, seq, ack, reason,
    function, netns, netns_name, ifname, tcp_flags
FROM raw.drops
UNION ALL
SELECT l.recording, l.ts, l.saddr, l.sport, l.daddr, l.dport, l.protocol, l.ip_version, 60, r.seq, 0,
    l.event, 'tcp_conn_request', l.netns, l.netns_name, l.ifname, 'SYN'
FROM raw.listen AS l
JOIN (
    SELECT DISTINCT recording, saddr, sport, daddr, dport, seq FROM raw.retransmits WHERE kind = 'SYN'
) AS r ON r.recording = l.recording AND r.saddr = l.saddr AND r.sport = l.sport
    AND r.daddr = l.daddr AND r.dport = l.dport
WHERE l.event IN ('accept_queue_full', 'syn_queue_full', 'syn_dropped')
