<?php
// A counter in the session, who served it, and a button for each node.
require 'nodes.php';

if ($_SERVER['REQUEST_METHOD'] === 'POST') {
    // The answer goes first: the order may be to kill this very node.
    http_response_code(303);
    header('Location: /');
    flush();
    order($_POST['verb'] === 'kill' ? 'kill' : 'start', $_POST['node']);
    exit;
}

$me = getenv('DEMO_NODE');
$nodes = Node::all();
$started = @session_start();
$reader = $started ? Node::thatRead(session_id()) : null;
$count = $_SESSION['count'] = ($_SESSION['count'] ?? 0) + 1;
error_clear_last();
@session_write_close();
$kept = $started && !error_get_last();

if (!$kept) {
    // Perhaps the session node died under this page: the balancer asks again elsewhere.
    http_response_code(503);
}
?>
<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width">
<title>The counter goes on</title>
<link rel="icon" href="data:,">
<link rel="stylesheet" href="style.css">
<main>
    <h1>The counter goes on</h1>
    <output id="count"><?= $kept ? $count : '&ndash;' ?></output>
    <p>
        served by <b id="web"><?= $me ?></b>,
<?php if (!$kept): ?>
        but no session node is there: start one
<?php elseif ($reader): ?>
        session read from <b id="session"><?= $reader->name ?></b>
<?php else: ?>
        session begun
<?php endif ?>
    </p>
    <section>
<?php foreach ($nodes as $node):
    $state = $node->state();
    $used = $node->name === $me || $node == $reader ? 'used' : '';
    [$verb, $label] = $state === 'killed' ? ['start', 'start'] : ['kill', 'kill -9'];
    ?>
        <form method="post" class="<?= "$state $used" ?>">
            <h2><?= $node->name ?></h2>
            <p id="<?= $node->name ?>"><?= $state ?></p>
            <input type="hidden" name="node" value="<?= $node->name ?>">
            <button name="verb" value="<?= $verb ?>"><?= $label ?></button>
        </form>
<?php endforeach ?>
    </section>
</main>
<footer>
    <label><input type="checkbox" id="running" checked> ask for the page four times a second</label>
    <p><b id="pages">1</b> pages, <b id="errors">0</b> errors, longest wait <b id="longest">0</b> ms</p>
</footer>
<script src="count.js"></script>
