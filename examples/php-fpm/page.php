<?php
// A page of some work: a table of a few hundred rows.
$rows = [];
for ($i = 0; $i < 200; $i++) {
    $rows[] = sprintf('<tr><td>%d</td><td>%s</td></tr>', $i, md5("row $i"));
}
echo '<table>' . implode("\n", $rows) . '</table>';
