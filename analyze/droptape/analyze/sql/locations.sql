-- The kernel functions of the code addresses that occur in one recording.
-- {occurring}: a query with one column `location`, the addresses as stored (signed 64 bits).
-- {symbols}: that recording's symbols (address, name, module).
-- Columns: location, function, offset (bytes from the function's start), module.
--
-- Addresses are signed here, but all kernel code lies in the upper half, so the order holds. Where
-- names share an address, the plainest is taken: fewest leading underscores, then shortest. A
-- function is shorter than 1 MiB; what is farther from any symbol is not named.
WITH starts AS (
    SELECT address, arg_min(name, (length(name) - length(ltrim(name, '_')), length(name), name)) AS name,
        arg_min(module, (length(name) - length(ltrim(name, '_')), length(name), name)) AS module
    FROM {symbols}
    WHERE address <> 0
    GROUP BY address
),
occurring AS (
    SELECT DISTINCT location FROM ({occurring}) WHERE location IS NOT NULL
)
SELECT o.location,
    CASE WHEN o.location - s.address < 1048576 THEN s.name END AS function,
    CASE WHEN o.location - s.address < 1048576 THEN o.location - s.address END AS "offset",
    CASE WHEN o.location - s.address < 1048576 THEN s.module END AS module
FROM occurring AS o ASOF LEFT JOIN starts AS s ON o.location >= s.address
