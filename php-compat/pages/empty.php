<?php
// Starts a session and puts nothing in it.
require 'start.php';
echo count($_SESSION);
