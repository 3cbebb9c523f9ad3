-- Why segments were sent again: for each retransmit the drop of its flow that explains it best.
--
-- {drops}, {retransmits}: rows with addresses of 16 bytes, of any number of recordings.
-- {translated}: the result of translated.sql, so that a drop is also found under translated addresses.
-- {address}: how addresses are shown, a function's name or nothing.
-- A flow is a pair of endpoints in either direction; the network namespace is no part of it, because
-- the router that dropped the segment is another one. Flows never join across recordings.
-- How far back a drop may be: twice the retransmission timeout, at least a second. SYN-ACKs have
-- their own timer, which doubles from one second.
-- How sure it is (`match`): `segment`, the dropped packet held bytes that were sent again; `reply`,
-- it came the other way and acknowledged them; `flow`, another packet of the flow, so perhaps not
-- the cause. Null, and no drop, where none was seen: it was lost elsewhere, or not at all.
-- Sequence numbers are compared modulo 2^32. The payload of a dropped packet is not recorded, so it
-- is its length without 52 (IPv6: 72) bytes of headers: rather too short than too long.
--
-- Cost: drops are first cut down to flows that have retransmits, and flows get numbers. Bytes are
-- met by an equi-join on pieces of 16 KiB of sequence numbers, the rest by one sorted pass over each
-- flow: no join on time.
-- Columns: those of {retransmits} that are picked below, ts; match; delay_ms; reason, function,
-- drop_netns, drop_netns_name, drop_ifname, drop_ts (of the drop; null without one).
WITH ways AS (
    SELECT DISTINCT recording, saddr, sport, daddr, dport FROM {retransmits} WHERE kind <> 'DEFERRED'
),
-- Both directions of each flow, with the same number.
ends AS MATERIALIZED (
    SELECT recording, saddr, sport, daddr, dport, min(flow) OVER (
            PARTITION BY recording,
                CASE WHEN saddr < daddr OR (saddr = daddr AND sport < dport) THEN saddr ELSE daddr END,
                CASE WHEN saddr < daddr OR (saddr = daddr AND sport < dport) THEN sport ELSE dport END,
                CASE WHEN saddr < daddr OR (saddr = daddr AND sport < dport) THEN daddr ELSE saddr END,
                CASE WHEN saddr < daddr OR (saddr = daddr AND sport < dport) THEN dport ELSE sport END
        ) AS flow,
        saddr < daddr OR (saddr = daddr AND sport < dport) AS forward
    FROM (
        SELECT *, row_number() OVER () AS flow
        FROM (
            SELECT * FROM ways
            UNION
            SELECT recording, daddr, dport, saddr, sport FROM ways
        )
    )
),
sent AS MATERIALIZED (
    SELECT row_number() OVER () AS id, epoch_ns(r.ts) AS ts_ns, e.flow, e.forward, r.recording, r.seq, r.kind,
        r.saddr, r.sport, r.daddr, r.dport, r.weight * r.segments AS amount, r.length, r.owner_pid,
        r.owner_comm, r.container, r.netns, r.netns_name,
        least(greatest(r.length, 1), 262144) AS size,
        greatest(1000000000, 2000 * coalesce(r.rto_us, 0),
            CASE WHEN r.kind = 'SYNACK' THEN 2000000000::BIGINT * (1 << least(coalesce(r.attempt, 0), 6)) ELSE 0 END
        )::BIGINT AS reach
    FROM {retransmits} AS r
    JOIN ends AS e
        ON r.recording = e.recording AND r.saddr = e.saddr AND r.sport = e.sport
        AND r.daddr = e.daddr AND r.dport = e.dport
    WHERE r.kind <> 'DEFERRED'
),
translated AS (
    {translated}
),
-- The same with the addresses that translation gave to one end.
all_ends AS MATERIALIZED (
    SELECT recording, saddr, sport, daddr, dport, flow, forward FROM ends
    UNION
    SELECT t.recording, t.saddr, t.sport, t.daddr, t.dport, e.flow, e.forward
    FROM translated AS t
    JOIN ends AS e
        ON e.recording = t.recording AND e.saddr = t.own_saddr AND e.sport = t.own_sport
        AND e.daddr = t.own_daddr AND e.dport = t.own_dport
    UNION
    SELECT t.recording, t.daddr, t.dport, t.saddr, t.sport, e.flow, NOT e.forward
    FROM translated AS t
    JOIN ends AS e
        ON e.recording = t.recording AND e.saddr = t.own_saddr AND e.sport = t.own_sport
        AND e.daddr = t.own_daddr AND e.dport = t.own_dport
),
spans AS (
    SELECT flow, min(ts_ns - reach) AS earliest, max(ts_ns) AS latest FROM sent GROUP BY flow
),
dropped AS MATERIALIZED (
    SELECT row_number() OVER () AS drop_id, c.*
    FROM (
        SELECT epoch_ns(d.ts) AS ts_ns, e.flow, e.forward, d.seq, d.ack, d.reason, d.function, d.netns,
            d.netns_name, d.ifname, d.tcp_flags LIKE '%ACK%' AS acknowledges,
            least(greatest(d.length - CASE WHEN d.ip_version = 6 THEN 72 ELSE 52 END, 1), 262144) AS size
        FROM {drops} AS d
        JOIN all_ends AS e
            ON d.recording = e.recording AND d.saddr = e.saddr AND d.sport = e.sport
            AND d.daddr = e.daddr AND d.dport = e.dport
        WHERE d.protocol = 'TCP' AND d.tcp_flags IS NOT NULL
    ) AS c
    JOIN spans AS s ON s.flow = c.flow
    WHERE c.ts_ns BETWEEN s.earliest AND s.latest
),
-- The same bytes: the latest drop before the retransmit that overlaps with it.
sent_pieces AS (
    SELECT id, ts_ns, reach, flow, forward, seq, size, (seq // 16384 + piece) % 262144 AS piece
    FROM (
        SELECT *, unnest(range(0, 1 + ((seq % 16384) + size - 1) // 16384)) AS piece FROM sent
    )
),
dropped_pieces AS (
    SELECT drop_id, ts_ns, flow, forward, seq, size, (seq // 16384 + piece) % 262144 AS piece
    FROM (
        SELECT *, unnest(range(0, 1 + ((seq % 16384) + size - 1) // 16384)) AS piece FROM dropped
    )
),
same_bytes AS (
    SELECT s.id, arg_max(d.drop_id, d.ts_ns) AS best
    FROM sent_pieces AS s
    JOIN dropped_pieces AS d ON d.flow = s.flow AND d.piece = s.piece AND d.forward = s.forward
    WHERE d.ts_ns <= s.ts_ns AND d.ts_ns >= s.ts_ns - s.reach
        AND ((s.seq - d.seq + 4294967296) % 4294967296 < d.size
            OR (d.seq - s.seq + 4294967296) % 4294967296 < s.size)
    GROUP BY s.id
),
-- Other drops of the flow: the latest of each direction before the retransmit, in one pass.
together AS (
    SELECT flow, ts_ns, 1 AS is_sent, id, forward, reach, seq, NULL::BIGINT AS ahead, NULL::BIGINT AS back
    FROM sent
    UNION ALL
    SELECT flow, ts_ns, 0, NULL, forward, 0, NULL,
        CASE WHEN forward THEN drop_id END, CASE WHEN NOT forward THEN drop_id END
    FROM dropped
),
nearest AS (
    SELECT is_sent, id, ts_ns, forward, reach, seq,
        last_value(ahead IGNORE NULLS) OVER passed AS ahead, last_value(back IGNORE NULLS) OVER passed AS back
    FROM together
    WINDOW passed AS (
        PARTITION BY flow ORDER BY ts_ns, is_sent ROWS BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW
    )
),
same_flow AS (
    SELECT n.id,
        CASE WHEN r.ts_ns >= n.ts_ns - n.reach THEN r.drop_id END AS reply,
        r.ts_ns AS reply_ns,
        r.acknowledges AND (r.ack - n.seq + 4294967295) % 4294967296 < 2147483648 AS covers,
        CASE WHEN o.ts_ns >= n.ts_ns - n.reach THEN o.drop_id END AS other,
        o.ts_ns AS other_ns
    FROM (
        SELECT id, ts_ns, reach, seq, CASE WHEN forward THEN back ELSE ahead END AS reply,
            CASE WHEN forward THEN ahead ELSE back END AS other
        FROM nearest
        WHERE is_sent = 1 AND (ahead IS NOT NULL OR back IS NOT NULL)
    ) AS n
    LEFT JOIN dropped AS r ON r.drop_id = n.reply
    LEFT JOIN dropped AS o ON o.drop_id = n.other
),
matched AS (
    SELECT s.*,
        CASE WHEN b.id IS NOT NULL THEN 'segment'
            WHEN f.reply IS NOT NULL AND f.covers THEN 'reply'
            WHEN f.reply IS NOT NULL OR f.other IS NOT NULL THEN 'flow' END AS match,
        CASE WHEN b.id IS NOT NULL THEN b.best
            WHEN f.reply IS NOT NULL AND f.covers THEN f.reply
            WHEN f.other IS NULL OR f.reply_ns > f.other_ns THEN coalesce(f.reply, f.other)
            ELSE f.other END AS drop_id
    FROM sent AS s
    LEFT JOIN same_bytes AS b ON b.id = s.id
    LEFT JOIN same_flow AS f ON f.id = s.id
)
SELECT m.recording, make_timestamp_ns(m.ts_ns) AS ts, m.kind, m.amount, {address}(m.saddr) AS saddr, m.sport,
    {address}(m.daddr) AS daddr, m.dport, m.seq, m.length, m.owner_pid, m.owner_comm, m.container,
    m.netns, m.netns_name, m.match, (m.ts_ns - d.ts_ns) / 1000000.0 AS delay_ms, d.reason, d.function,
    d.netns AS drop_netns, d.netns_name AS drop_netns_name, d.ifname AS drop_ifname,
    make_timestamp_ns(d.ts_ns) AS drop_ts
FROM matched AS m
LEFT JOIN dropped AS d ON d.drop_id = m.drop_id
