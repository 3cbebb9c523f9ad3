-- Which values of some columns have the most events.
-- {table}: a view of the schema raw, or counts of it. {keys}: its columns AS k0, k1, …; {groups}: k0, k1, …; {order}: the same to sort by.
-- {labels}: the same as they are shown. {amount}: what a row counts for. {number}: how many events
-- it is. {since}, {until}: its first and last time.
-- {condition}: which rows count. {limit}: rows at most.
-- Columns: those of labels, events, share (percent of all events), rows, since, until.
WITH keyed AS (
    SELECT {keys}, {amount} AS amount, {number} AS number, {since} AS since, {until} AS until
    FROM {table}
    WHERE {condition}
),
grouped AS (
    SELECT {groups}, sum(amount)::BIGINT AS events, sum(number)::BIGINT AS "rows", min(since) AS since, max(until) AS until
    FROM keyed
    GROUP BY {groups}
)
SELECT {labels}, events, round(100.0 * events / nullif(sum(events) OVER (), 0), 2) AS share, "rows", since, until
FROM grouped
ORDER BY events DESC, {order}
LIMIT {limit}
