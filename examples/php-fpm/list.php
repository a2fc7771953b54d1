<?php
// A short answer: a sorted list as JSON.
header('Content-Type: application/json');
$list = range(1, 50);
usort($list, fn ($a, $b) => crc32("$a") <=> crc32("$b"));
echo json_encode(['list' => $list]);
