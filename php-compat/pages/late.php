<?php
// Takes longer to make than the balancer takes to find a node again.
require 'start.php';
usleep(2_500_000);
$_SESSION['late'] = true;
@session_write_close();
echo $_SESSION['user'] ?? 'nobody';
