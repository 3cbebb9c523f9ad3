-- Which values of some columns have the most events.
-- {table}: a view of the schema raw. {keys}: its columns AS k0, k1, …; {groups}: k0, k1, …; {order}: the same to sort by.
-- {labels}: the same as they are shown. {amount}: what a row counts for. {time}: its time.
-- {condition}: which rows count. {limit}: rows at most.
-- Columns: those of labels, events, share (percent of all events), rows, since, until.
WITH keyed AS (
    SELECT {keys}, {amount} AS amount, {time} AS moment
    FROM {table}
    WHERE {condition}
),
grouped AS (
    SELECT {groups}, sum(amount)::BIGINT AS events, count(*) AS "rows", min(moment) AS since, max(moment) AS until
    FROM keyed
    GROUP BY {groups}
)
SELECT {labels}, events, round(100.0 * events / nullif(sum(events) OVER (), 0), 2) AS share, "rows", since, until
FROM grouped
ORDER BY events DESC, {order}
LIMIT {limit}
