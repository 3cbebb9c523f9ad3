-- Flows of retransmits that a drop shows under other addresses: this host translates them (a
-- published port of a container, masquerading, a virtual address of a service).
--
-- {retransmits}, {drops}: rows with addresses of 16 bytes, of any number of recordings.
-- Translation changes one end of a flow and leaves the other, and sequence numbers, as they are: so
-- one end is equal, and either the dropped packet began where a segment that was sent again begins,
-- or it came back and acknowledged where one ends. No more than 200 s before: the longest timeout is
-- 120 s. Flows never join across recordings.
-- Columns: recording; saddr, sport, daddr, dport (as dropped, in the direction of what was sent
-- again); own_saddr, own_sport, own_daddr, own_dport (as the socket has them).
WITH lost AS (
    SELECT recording, saddr, sport, daddr, dport, seq AS number, false AS reply,
        epoch_ns(ts) AS ns
    FROM {drops}
    WHERE protocol = 'TCP' AND tcp_flags IS NOT NULL
    UNION ALL
    SELECT recording, daddr, dport, saddr, sport, ack, true, epoch_ns(ts)
    FROM {drops}
    WHERE protocol = 'TCP' AND tcp_flags LIKE '%ACK%'
),
again AS (
    SELECT recording, saddr, sport, daddr, dport, seq AS number, false AS reply,
        epoch_ns(ts) AS ns
    FROM {retransmits}
    WHERE kind <> 'DEFERRED'
    UNION ALL
    SELECT recording, saddr, sport, daddr, dport, (seq + length) % 4294967296, true,
        epoch_ns(ts)
    FROM {retransmits}
    WHERE kind <> 'DEFERRED'
)
SELECT d.recording, d.saddr, d.sport, d.daddr, d.dport, r.saddr AS own_saddr, r.sport AS own_sport,
    r.daddr AS own_daddr, r.dport AS own_dport
FROM lost AS d
JOIN again AS r ON r.recording = d.recording AND r.number = d.number AND r.reply = d.reply
    AND r.saddr = d.saddr AND r.sport = d.sport
WHERE (r.daddr <> d.daddr OR r.dport <> d.dport) AND d.ns BETWEEN r.ns - 200000000000 AND r.ns
UNION
SELECT d.recording, d.saddr, d.sport, d.daddr, d.dport, r.saddr, r.sport, r.daddr, r.dport
FROM lost AS d
JOIN again AS r ON r.recording = d.recording AND r.number = d.number AND r.reply = d.reply
    AND r.daddr = d.daddr AND r.dport = d.dport
WHERE (r.saddr <> d.saddr OR r.sport <> d.sport) AND d.ns BETWEEN r.ns - 200000000000 AND r.ns
