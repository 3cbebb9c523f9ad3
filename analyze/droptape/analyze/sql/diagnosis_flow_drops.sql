-- TCP packets dropped, by the addresses of the flow as its sockets have them: also those that were
-- dropped under translated ones.
-- drops: the table of one recording; translated: the result of translated.sql.
-- Columns: saddr, sport, daddr, dport, reason, function, netns, weight; ns; drop_port (the smaller port
-- of the packet as it was dropped).
WITH counted AS (
    SELECT saddr, sport, daddr, dport, reason, function, netns, weight,
        epoch_ns(ts) AS ns, least(sport, dport) AS drop_port
    FROM drops
    WHERE benign IS NOT TRUE AND protocol = 'TCP'
)
SELECT * FROM counted
UNION ALL
SELECT t.own_saddr, t.own_sport, t.own_daddr, t.own_dport, d.reason, d.function, d.netns, d.weight,
    d.ns, d.drop_port
FROM counted AS d
JOIN translated AS t ON t.saddr = d.saddr AND t.sport = d.sport AND t.daddr = d.daddr
    AND t.dport = d.dport
UNION ALL
SELECT t.own_daddr, t.own_dport, t.own_saddr, t.own_sport, d.reason, d.function, d.netns, d.weight,
    d.ns, d.drop_port
FROM counted AS d
JOIN translated AS t ON t.saddr = d.daddr AND t.sport = d.dport AND t.daddr = d.saddr
    AND t.dport = d.sport
