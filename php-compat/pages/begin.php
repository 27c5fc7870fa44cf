<?php
// A session begins; says how many microseconds that took.
$since = hrtime(true);
require 'start.php';
$took = hrtime(true) - $since;
$_SESSION['begun'] = true;
echo intdiv($took, 1000);
