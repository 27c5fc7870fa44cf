<?php
// As click.php, but only looks.
require 'start.php';
echo $_SESSION['user'] ?? 'nobody', ' ', $_SESSION['clicks'] ?? 0;
