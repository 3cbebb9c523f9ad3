-- Which drops explain the retransmits, most first.
-- Columns: kind (of retransmit); match (segment, reply, flow; null where no drop was seen); reason,
-- function, netns, ifname (of the drop); segments; share (percent of all segments sent again);
-- delay_ms (median, from the drop to the retransmit).
WITH explained AS (
    SELECT kind, match, reason, function, coalesce(drop_netns_name, drop_netns::VARCHAR) AS netns,
        drop_ifname AS ifname, amount, delay_ms
    FROM raw.retransmit_causes
)
SELECT kind, match, reason, function, netns, ifname, sum(amount)::BIGINT AS segments,
    round(100.0 * sum(amount) / nullif(sum(sum(amount)) OVER (), 0), 2) AS share,
    round(median(delay_ms), 3) AS delay_ms
FROM explained
GROUP BY kind, match, reason, function, netns, ifname
ORDER BY segments DESC, kind, match NULLS LAST, reason, function, netns, ifname
