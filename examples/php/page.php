<?php
// A small shop page: a table of forty rows made from arrays, sorted and formatted.
$rows = [];
for ($i = 0; $i < 40; $i++) {
    $rows[] = ['name' => 'article ' . $i, 'price' => ($i * 37 % 101) / 4, 'stock' => $i * $i % 17];
}
usort($rows, fn($a, $b) => $a['price'] <=> $b['price']);
?>
<!doctype html>
<html><head><title>Forty articles</title></head><body>
<h1><?= htmlspecialchars($_GET['title'] ?? 'Articles & more') ?></h1>
<table>
<?php foreach ($rows as $at => $row): ?>
<tr class="<?= $at % 2 ? 'odd' : 'even' ?>"><td><?= htmlspecialchars(ucfirst($row['name'])) ?></td>
<td><?= number_format($row['price'], 2) ?></td><td><?= $row['stock'] ? $row['stock'] . ' left' : 'sold out' ?></td></tr>
<?php endforeach ?>
</table></body></html>
